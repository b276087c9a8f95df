# cython: language_level=3, boundscheck=False, wraparound=False
"""Thin wrapper of the one C++ stream decoder (native/src/stream_decoder.h)."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

import numpy as np

from libsedge.frame import Frame


cdef extern from "stream_decoder.h" namespace "sedge" nogil:
    cdef enum class FrameDtype(uint8_t):
        uint16
        float32

    cdef struct FrameView:
        uint16_t flags
        uint32_t stream_id
        uint32_t epoch
        uint64_t sequence
        uint64_t time_ns
        uint32_t integration_us
        uint32_t distance_mm
        uint32_t channels
        FrameDtype dtype
        const uint8_t* payload
        size_t payload_bytes

    cdef struct DecoderCounters:
        uint64_t frames
        uint64_t garbage_bytes
        uint64_t crc_errors
        uint64_t header_errors
        uint64_t truncated_bytes
        uint64_t incomplete

    cdef cppclass StreamDecoder:
        StreamDecoder(uint8_t* buffer, uint32_t max_channels, cbool verify_crc) except +
        size_t push(const uint8_t* data, size_t size)
        cbool next(FrameView* frame)
        void finish()
        const DecoderCounters& counters()
        size_t pending_bytes()

    size_t buffer_bytes "sedge::StreamDecoder::buffer_bytes"(uint32_t max_channels)


cdef class Decoder:
    """Frames out of a byte stream, however it is cut into chunks; see `_frames.pyi` for the contract."""

    cdef vector[uint8_t] _buffer
    cdef StreamDecoder* _decoder
    cdef cbool _finished

    def __cinit__(self, max_channels=65536):
        if not 1 <= max_channels <= 65536:
            raise ValueError(f"max_channels = {max_channels}: 1 to 65536")
        self._buffer.resize(buffer_bytes(max_channels))
        self._decoder = new StreamDecoder(self._buffer.data(), max_channels, True)
        self._finished = False

    def __dealloc__(self):
        del self._decoder

    def feed(self, data):
        if self._finished:
            raise ValueError("feed() after finish(): make a new Decoder for a new stream")
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef size_t size = <size_t>view.shape[0]
        cdef size_t done = 0
        frames = []
        while done < size:
            done += self._decoder.push(&view[0] + done, size - done)
            self._drain(frames)
        return frames

    def finish(self):
        self._finished = True
        self._decoder.finish()
        frames = []
        self._drain(frames)
        return frames

    cdef _drain(self, list frames):
        cdef FrameView view
        while self._decoder.next(&view):
            wire = "<u2" if view.dtype == FrameDtype.uint16 else "<f4"
            values = np.frombuffer((<const char*>view.payload)[: view.payload_bytes], dtype=wire)
            frames.append(
                Frame(
                    stream_id=view.stream_id,
                    epoch=view.epoch,
                    sequence=view.sequence,
                    time_ns=view.time_ns,
                    integration_us=view.integration_us,
                    distance_mm=view.distance_mm,
                    flags=view.flags,
                    values=values.astype(values.dtype.newbyteorder("="), copy=False),
                )
            )

    @property
    def frames(self):
        return self._decoder.counters().frames

    @property
    def garbage_bytes(self):
        return self._decoder.counters().garbage_bytes

    @property
    def crc_errors(self):
        return self._decoder.counters().crc_errors

    @property
    def header_errors(self):
        return self._decoder.counters().header_errors

    @property
    def truncated_bytes(self):
        return self._decoder.counters().truncated_bytes

    @property
    def incomplete(self):
        return self._decoder.counters().incomplete

    @property
    def pending_bytes(self):
        return self._decoder.pending_bytes()
