# cython: language_level=3, boundscheck=False, wraparound=False
"""Thin wrapper of the one C++ stream decoder (native/src/stream_decoder.h)."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

import numpy as np

from libsedge.frame import Frame
from libsedge.ledger import Key

cdef extern from "Python.h":
    int PyObject_GenericSetAttr(object, object, object) except -1

cdef object _new = object.__new__
cdef object _new_key = tuple.__new__
cdef object _frombuffer = np.frombuffer
cdef object _uint16 = np.dtype("<u2")
cdef object _float32 = np.dtype("<f4")


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


cdef _frame(const FrameView* view, values):
    """`Frame(...)`, which is frozen, without the Python of its `__init__`."""
    stream, epoch, sequence = view.stream_id, view.epoch, view.sequence
    frame = _new(Frame)
    PyObject_GenericSetAttr(frame, "stream_id", stream)
    PyObject_GenericSetAttr(frame, "epoch", epoch)
    PyObject_GenericSetAttr(frame, "sequence", sequence)
    PyObject_GenericSetAttr(frame, "time_ns", view.time_ns)
    PyObject_GenericSetAttr(frame, "integration_us", view.integration_us)
    PyObject_GenericSetAttr(frame, "distance_mm", view.distance_mm)
    PyObject_GenericSetAttr(frame, "flags", view.flags)
    PyObject_GenericSetAttr(frame, "values", values)
    PyObject_GenericSetAttr(frame, "key", _new_key(Key, (stream, epoch, sequence)))
    return frame


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
        cdef Py_buffer view
        cdef size_t size, done = 0
        cdef list frames = []
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            size = <size_t>view.len
            while done < size:
                done += self._decoder.push(<const uint8_t*>view.buf + done, size - done)
                self._drain(frames)
        finally:
            PyBuffer_Release(&view)
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
            wire = _uint16 if view.dtype == FrameDtype.uint16 else _float32
            values = _frombuffer((<const char*>view.payload)[: view.payload_bytes], wire)
            if not wire.isnative:
                values = values.astype(wire.newbyteorder("="))
            frames.append(_frame(&view, values))

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
