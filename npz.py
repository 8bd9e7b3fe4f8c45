"""NumPy's .npz files without reading them: arrays are mapped into memory, so that data may be larger than wanted there.

np.load reads every array of an .npz whole. Here a file's pages are read when they are first touched and can be dropped
again, so a process that samples windows of a few gigabytes needs no more memory of its own than for a few megabytes.
Before this: data.py, which saves and loads trajectories with these two functions.
"""

import math
import struct
import zipfile

import numpy as np

ALIGNMENT = 64  # bytes: arrays in files begin at multiples of it, so that they can be used where they are mapped


def write(path, arrays):
    """As np.savez(path, **arrays), but every array begins at a multiple of ALIGNMENT bytes: see read()."""
    with open(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            begins = file.tell() + 30 + len(member.filename.encode()) + 4 + 20  # a zip's header, padding's and size's
            member.extra = struct.pack("<HH", 0xD935, -begins % ALIGNMENT) + bytes(-begins % ALIGNMENT)
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


def read(path):
    """{name: array} of an .npz file, mapped into memory wherever that is possible (np.load would read it all).

    An uncompressed .npz holds its arrays as they are in memory. Pages are read when they are first touched and can be
    dropped again; writing to an array copies its page (mode "c"): the file never changes. Compressed arrays are read.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as raw:
        if damaged := archive.testzip():  # a flipped bit would go unnoticed where an array is mapped
            raise ValueError(f"{damaged} does not match its checksum")
        for member in archive.infolist():
            array = _map(raw, member) if member.compress_type == zipfile.ZIP_STORED else None
            if array is None:
                with archive.open(member) as stream:
                    array = np.lib.format.read_array(stream, allow_pickle=False)
            arrays[member.filename.removesuffix(".npy")] = array
    return arrays


def _map(raw, member):
    """The array of an uncompressed member of the zip file `raw`, mapped; None if that cannot be done."""
    raw.seek(member.header_offset)
    name, extra = struct.unpack("<26xHH", raw.read(30))  # the lengths of what lies between this header and the content
    begin = raw.seek(member.header_offset + 30 + name + extra)
    version = np.lib.format.read_magic(raw)
    if version > (2, 0):
        return None
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(raw)
    content = dtype.itemsize * math.prod(shape)
    if dtype.hasobject or not shape or not content or raw.tell() - begin + content != member.file_size:
        return None
    return np.memmap(raw, dtype, "c", raw.tell(), shape, "F" if fortran else "C")
