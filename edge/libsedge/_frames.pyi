from typing_extensions import Buffer

from libsedge.frame import Frame

class Decoder:
    """Frames out of a byte stream, however it is cut into chunks.

    Damage costs the damaged frame and nothing else: every undamaged frame comes out, a damaged one never
    does. No memory is taken after construction but for the frames handed out (two frames of the largest size
    are held). For one thread at a time.

    Parameters
    ----------
    max_channels : 1 to 65536; a frame of more channels counts as a header error.
    """

    def __init__(self, max_channels: int = 65536) -> None: ...
    def feed(self, data: Buffer) -> list[Frame]:
        """Takes all bytes of `data`; returns the frames completed by them, in order."""

    def finish(self) -> list[Frame]:
        """Ends the stream and returns whole frames that stood behind a damaged header.

        Afterwards bytes fed = bytes of frames + `garbage_bytes` + `truncated_bytes`; `feed` raises
        ValueError.
        """

    @property
    def frames(self) -> int: ...
    @property
    def garbage_bytes(self) -> int:
        """Bytes outside every frame that came out (damaged frames included)."""

    @property
    def crc_errors(self) -> int:
        """Places where magic and header hold and the CRC does not."""

    @property
    def header_errors(self) -> int:
        """Places where the magic stands and a header field is out of its range."""

    @property
    def truncated_bytes(self) -> int:
        """After `finish`: the beginning of a frame whose end never came; 0 for a stream that ended
        cleanly."""

    @property
    def incomplete(self) -> int:
        """Found by `finish`: places where a whole magic stands and the end its header asks for never came."""

    @property
    def pending_bytes(self) -> int:
        """Bytes held back because a frame may begin there."""
