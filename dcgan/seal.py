"""Checkpoints that prove themselves whole: torch.load notices neither a flipped bit nor, mapped, a missing end."""

import hashlib
import io
import zipfile
from pathlib import Path

from dcgan.checks import UserError

END = b"PK\x05\x06"  # of a zip archive (APPNOTE.TXT, 4.3.16): 22 bytes, the last two the length of a comment
END_BYTES = 22
MARK = b"sha256:"
COMMENT_BYTES = len(MARK) + 64
SEAL_BYTES = 2 + COMMENT_BYTES


def seal(path: Path) -> None:
    """Put the digest of a zip archive's bytes into its comment, which all readers of such archives leave alone."""
    with path.open("rb+") as file:
        file.seek(-END_BYTES, io.SEEK_END)
        end = file.read()
        assert has_no_comment(end), "torch.save writes none"
        content = file.seek(-2, io.SEEK_END)
        file.write(seal_of(path, content))


def check_seal(path: Path) -> None:
    """Raise UserError unless the file is whole: by its seal, or by the checksums of an archive that has none, because
    somebody has saved it anew; and for an archive that would become longer when it is read. OSError where it cannot be
    read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        tail = read_tail(file, size, SEAL_BYTES)
        end = read_tail(file, size, END_BYTES)
    if tail[2:].startswith(MARK):
        whole = tail == seal_of(path, size - SEAL_BYTES) and is_sound(path, checksums=False)
    elif has_no_comment(end):
        whole = is_sound(path, checksums=True)
    else:
        raise damaged(path, f"its {size:,} bytes have not the end of one, it is cut short or something else")
    if not whole:
        raise damaged(path, "its content is not what was written")


def damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be read as a checkpoint ({reason}): use another one, such as best.ckpt beside it")


def read_tail(file: io.BufferedReader, size: int, n: int) -> bytes:
    file.seek(max(0, size - n))
    return file.read(n)


def has_no_comment(end: bytes) -> bool:
    return end.startswith(END) and end.endswith(b"\0\0")


def seal_of(path: Path, n: int) -> bytes:
    """The comment that belongs behind the first n bytes, and before it its length."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while n > 0 and (chunk := file.read(min(n, 1 << 20))):
            sha.update(chunk)
            n -= len(chunk)
    return COMMENT_BYTES.to_bytes(2, "little") + MARK + sha.hexdigest().encode()


def is_sound(path: Path, checksums: bool) -> bool:
    """Whether nothing in the archive is compressed, as torch.save leaves it, and its checksums are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
            return stored and (not checksums or archive.testzip() is None)
    except Exception:  # of a broken archive, zipfile raises a dozen kinds
        return False
