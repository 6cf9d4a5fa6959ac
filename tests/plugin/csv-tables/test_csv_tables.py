"""The whole test module of a plugin author."""

from dataclasses import dataclass

from csv_tables import COLUMNS, COUNT, FIRST, ROWS, CsvTable


@dataclass
class Memory:
    """Bytes as a storage server hands them to a type."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]


TABLE = b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(100_000))


def test_columns() -> None:
    assert b"".join(CsvTable().render(COLUMNS, {}, Memory(TABLE)).pieces) == b'["a", "b"]'


def test_rows() -> None:
    found = CsvTable().render(ROWS, {FIRST.uri: "50000", COUNT.uri: "2"}, Memory(TABLE))
    assert b"".join(found.pieces) == b"a,b\n50000,x\n50001,x\n"
