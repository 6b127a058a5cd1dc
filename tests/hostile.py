"""Files of the kinds that run code, or change the program, where a reader is careless; each marks that it did."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import torch

PROTOCOL_2, STOP = b"\x80\x02", b"."


class Call:
    """Calls a function when unpickled."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def text(value: str) -> bytes:
    """The instruction that puts a text on the stack."""
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def pickles(mark: Path) -> dict[str, bytes]:
    """Name -> a pickle that makes the folder `mark`, or sets an attribute of a class or module of the program."""
    attribute = b"}" + text("hostile_mark") + b"K\x01s"  # {"hostile_mark": 1}
    slots = b"N" + attribute + b"\x86b"  # BUILD with (None, {...}): setattr
    return {
        "reduce": pickle.dumps({"a": Call(os.mkdir, str(mark))}),
        "reduce protocol 0": pickle.dumps(Call(os.mkdir, str(mark)), protocol=0),
        "eval": pickle.dumps(Call(eval, f"__import__('os').mkdir({str(mark)!r})")),
        "getattr": b"cbuiltins\ngetattr\n(cos\nmkdir\ntR" + STOP,
        "instance": b"(" + text(str(mark)) + b"ios\nmkdir\n" + STOP,
        "object": b"(cos\nmkdir\n" + text(str(mark)) + b"o" + STOP,
        "new object": PROTOCOL_2 + b"cpathlib\nPath\n)\x81" + STOP,
        "new object of a known name": PROTOCOL_2 + b"ccollections\nOrderedDict\n)\x81" + STOP,
        "dotted name": b"\x80\x04" + text("collections") + text("abc.Mapping") + b"\x93" + STOP,
        "extension": PROTOCOL_2 + b"\x82\x01" + STOP,
        "persistent": PROTOCOL_2 + text("os.mkdir") + b"Q" + STOP,
        "attribute of a storage": PROTOCOL_2 + b"ctorch.storage\nTypedStorage\n" + slots + STOP,
        "attribute of a float storage": PROTOCOL_2 + b"ctorch\nFloatStorage\n" + slots + STOP,
        "attribute of a dictionary": PROTOCOL_2 + b"ccollections\nOrderedDict\n" + slots + STOP,
        "attribute of a parameter": PROTOCOL_2 + b"ctorch.nn.parameter\nParameter\n" + slots + STOP,
        "attribute of an array": PROTOCOL_2 + b"cnumpy\nndarray\n" + slots + STOP,
        "attribute of a function": PROTOCOL_2 + b"ctorch._utils\n_rebuild_tensor_v2\n" + slots + STOP,
        "attribute of a module": PROTOCOL_2 + b"cUtils.files\nload_pickle\n" + slots + STOP,
        "storage from bytes": PROTOCOL_2 + b"ctorch.storage\n_load_from_bytes\n(" + text("x") + b"tR" + STOP,
        "fields of an array": PROTOCOL_2
        + b"cnumpy\ndtype\n(X\x02\x00\x00\x00V8I0\nI1\ntR(I3\nX\x01\x00\x00\x00|NNNI8\nI1\nI63\ntb"
        + STOP,
        "flags of an array": PROTOCOL_2
        + b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8I0\nI1\ntR(I3\nX\x01\x00\x00\x00|N}}I8\nI1\nI63\ntb"
        + STOP,
        "a key as deep as the stack": PROTOCOL_2 + b"}" + b")" + 100_000 * b"\x85" + b"K\x01s" + STOP,
        "a list of lists of lists": PROTOCOL_2 + b"]q\x00" + b"".join(_doubled(n) for n in range(40)) + STOP,
        "a list that holds itself": PROTOCOL_2 + b"]q\x00h\x00a" + STOP,
        "more than any memory": b"\x80\x04" + b"\x8e" + struct.pack("<Q", 2**62) + STOP,
        "as many zeros": b"\x80\x05" + b"\x96" + struct.pack("<Q", 2**40) + STOP,
    }


def _doubled(number: int) -> bytes:
    """The instructions that put a list on the stack that holds the last list twice."""
    last, new = bytes([number]), bytes([number + 1])
    return b"]q" + new + b"(h" + last + b"h" + last + b"e"


def archive(pickled: bytes, path: Path) -> None:
    """A torch.save archive of a pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", b"3\n")


def old_file(pickled: bytes) -> bytes:
    """A file of torch before 1.6 with a pickle and no tensors."""
    head = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join([*head, pickled, pickle.dumps([], protocol=2)])


def torchscript(path: Path) -> None:
    """An archive of TorchScript under the name of a checkpoint."""

    class Plain(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    torch.jit.script(Plain()).save(str(path))


def saved(content: object, old: bool = False) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()
