"""Archived files are read to their end, whatever is wrong with some of them."""

import gzip
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zstandard

from detector.errors import UsageError
from detector.record import Batch, DeadLetter
from detector.sources.file import FileSource, find_files
from tests.events import line

LINES = [f"line {number}".encode() for number in range(1, 6)]
TEXT = b"\n".join(LINES) + b"\n"


def batches(*paths: Path | str) -> list[Batch]:
    """Everything that a source gives."""
    return list(FileSource([str(path) for path in paths]))


def values(read: Sequence[Batch]) -> list[bytes]:
    """The records, in the order in which they were given."""
    return [value for batch in read for value in batch.values]


def places(read: Sequence[Batch]) -> list[str]:
    """Where each of them lies."""
    return [
        f"{Path(p.stream).name}:{p.offset}"
        for batch in read
        for p in (batch.positions[i] for i in range(len(batch.positions)))
    ]


def refusals(read: Sequence[Batch]) -> list[DeadLetter]:
    """What the source itself could not use."""
    return [letter for batch in read for letter in batch.refused]


def reasons(read: Sequence[Batch]) -> list[tuple[str, int]]:
    """Why and at which line."""
    return [(letter.reason, letter.position.offset) for letter in refusals(read) if letter.position]


def zstd(content: bytes) -> bytes:
    """One frame."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def lines_of(count: int, prefix: str = "") -> bytes:
    """Lines that hardly shrink, so that a compressed file can be cut in their midst."""
    return b"".join(b"%s%d %s\n" % (prefix.encode(), number, os.urandom(50).hex().encode()) for number in range(count))


CONTENTS = {
    "plain": TEXT,
    "no newline at the end": TEXT[:-1],
    "gzip": gzip.compress(TEXT),
    "gzip of two members": gzip.compress(TEXT[:17]) + gzip.compress(TEXT[17:]),
    "gzip of two members, the second of nothing": gzip.compress(TEXT) + gzip.compress(b""),
    "gzip and zeros, as tapes have": gzip.compress(TEXT) + b"\0" * 512,
    "zstd": zstd(TEXT),
    "zstd of two frames": zstd(TEXT[:17]) + zstd(TEXT[17:]),
    "zstd of frames of nothing": zstd(b"") + zstd(TEXT) + zstd(b""),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_a_file_gives_its_lines_however_it_is_packed(tmp_path: Path, content: bytes) -> None:
    """Its first bytes tell how, for names lie; a line may begin in one member and end in the next."""
    (tmp_path / "audit.log").write_bytes(content)
    read = batches(tmp_path / "audit.log")
    assert values(read) == LINES
    assert places(read) == [f"audit.log:{number}" for number in range(1, 6)]
    assert not refusals(read)


def test_line_ends_of_windows_and_blank_lines_are_left_to_the_format(tmp_path: Path) -> None:
    """They count as lines, so that line numbers are those of an editor."""
    (tmp_path / "audit.log").write_bytes(b"one\r\n\r\n\nfour")
    assert values(batches(tmp_path / "audit.log")) == [b"one\r", b"\r", b"", b"four"]


@pytest.mark.parametrize("content", [b"", gzip.compress(b""), zstd(b"")], ids=["plain", "gzip", "zstd"])
def test_an_empty_file_gives_nothing(tmp_path: Path, content: bytes) -> None:
    """And is no fault."""
    (tmp_path / "audit.log").write_bytes(content)
    assert batches(tmp_path / "audit.log") == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_line_numbers_go_on_from_block_to_block(tmp_path: Path, pack: type[bytes]) -> None:
    """A line that lies across two blocks is whole."""
    content = lines_of(20_000)
    (tmp_path / "audit.log").write_bytes(pack(content))
    read = batches(tmp_path / "audit.log")
    assert len(read) > 5
    assert values(read) == content.splitlines()
    assert places(read) == [f"audit.log:{number}" for number in range(1, 20_001)]


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_file_that_is_cut_off_gives_the_lines_before_and_is_told_once(
    tmp_path: Path, pack: type[bytes], share: float
) -> None:
    """The line that is not whole goes with the reason; other files are read all the same."""
    content = lines_of(20_000)
    packed = pack(content)
    (tmp_path / "cut").write_bytes(packed[: int(len(packed) * share)])
    (tmp_path / "whole").write_bytes(TEXT)
    read = batches(tmp_path / "cut", tmp_path / "whole")
    kept = [value for value in values(read) if value not in LINES]
    assert len(kept) > 20_000 * share * 0.9
    assert content.splitlines()[: len(kept)] == kept
    assert reasons(read) == [("unreadable_file", len(kept) + 1)]
    assert set(LINES) < set(values(read))


def test_a_short_file_that_is_cut_off_gives_its_lines_too(tmp_path: Path) -> None:
    """Though all of them lie in the block with the fault."""
    packed = gzip.compress(lines_of(50))
    (tmp_path / "cut.gz").write_bytes(packed[:-20])
    read = batches(tmp_path / "cut.gz")
    assert len(values(read)) > 40
    assert [reason for reason, _ in reasons(read)] == ["unreadable_file"]
    assert "cut off" in refusals(read)[0].detail


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_file_that_is_damaged_is_told_once(tmp_path: Path, pack: type[bytes]) -> None:
    """Whatever the decompressor makes of it."""
    packed = bytearray(pack(lines_of(20_000)))
    packed[len(packed) // 2 : len(packed) // 2 + 200] = os.urandom(200)
    (tmp_path / "damaged").write_bytes(packed)
    assert [reason for reason, _ in reasons(batches(tmp_path / "damaged"))] == ["unreadable_file"]


def test_rubbish_behind_a_compressed_file_is_told(tmp_path: Path) -> None:
    """After all that came before it was read."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT) + b"rubbish")
    (tmp_path / "b.zst").write_bytes(zstd(TEXT) + b"rubbish")
    read = batches(tmp_path / "a.gz", tmp_path / "b.zst")
    assert values(read) == LINES * 2
    assert [reason for reason, _ in reasons(read)] == ["unreadable_file"] * 2


def test_a_zstd_window_larger_than_any_tool_makes_is_refused(tmp_path: Path) -> None:
    """A few bytes must not make the reader take a gigabyte of memory."""
    frame = b"\x28\xb5\x2f\xfd" + b"\x00\xa0" + b"\x29\x00\x00" + b"line\n"  # 2 ** 30 bytes of window
    (tmp_path / "huge.zst").write_bytes(frame)
    read = batches(tmp_path / "huge.zst")
    assert values(read) == []
    assert reasons(read) == [("unreadable_file", 1)]


def packed_zeros(size_mb: int, pattern: bytes) -> bytes:
    """Much of the same, made a megabyte at a time."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    megabyte = pattern * ((1 << 20) // len(pattern))
    return b"".join([*(compressor.compress(megabyte) for _ in range(size_mb)), compressor.flush()])


@pytest.mark.parametrize("pattern", [b"\0", b'{"a":"' + b"x" * 1000 + b'"}\n'], ids=["one line", "many lines"])
def test_a_bomb_is_not_read_to_its_end(tmp_path: Path, pattern: bytes) -> None:
    """A real log shrinks 35-fold; what grows more than 200-fold is left, and the next file is read."""
    bomb = packed_zeros(300, pattern)
    assert len(bomb) < 100_000
    (tmp_path / "bomb.zst").write_bytes(bomb)
    (tmp_path / "whole").write_bytes(TEXT)
    total, found, seen = 0, [], 0
    for batch in FileSource([str(tmp_path / "bomb.zst"), str(tmp_path / "whole")]):
        total += sum(len(value) + 1 for value in batch.values)
        seen += sum(value in LINES for value in batch.values)
        found += [letter.reason for letter in batch.refused]
    assert found[-1] == "decompression_bomb"
    assert set(found) <= {"decompression_bomb", "too_large"}
    assert total < 150 << 20
    assert seen == len(LINES)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_line_that_is_too_long_is_refused_and_the_next_one_read(tmp_path: Path, pack: type[bytes]) -> None:
    """Only its beginning is kept; line numbers stay right."""
    long = os.urandom(1024).hex().encode() * (17 << 9)
    (tmp_path / "audit.log").write_bytes(pack(b"one\n" + long + b"\nthree\n" + long + b"\nfive"))
    read = batches(tmp_path / "audit.log")
    assert values(read) == [b"one", b"three", b"five"]
    assert places(read) == ["audit.log:1", "audit.log:3", "audit.log:5"]
    assert reasons(read) == [("too_large", 2), ("too_large", 4)]
    assert [letter.payload for letter in refusals(read)] == [long[:1024]] * 2


def test_a_last_line_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Though no line end tells where it ends."""
    (tmp_path / "audit.log").write_bytes(b"one\n" + b"x" * (18 << 20))
    read = batches(tmp_path / "audit.log")
    assert values(read) == [b"one"]
    assert reasons(read) == [("too_large", 2)]


def test_a_folder_gives_all_that_lies_below_but_hidden_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order of their names; the folder itself may lie anywhere."""
    folder = tmp_path / ".cache" / "logs"
    for name in ("b.log", "a/deep.log", "a/.hidden.log", ".git/config", "a.log"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(TEXT)
    (folder / "empty").mkdir()
    expected = [folder / "a/deep.log", folder / "a.log", folder / "b.log"]
    assert find_files([str(folder)]) == [str(path) for path in expected]
    monkeypatch.chdir(folder / "a")
    assert find_files([".."]) == ["../a/deep.log", "../a.log", "../b.log"]
    assert find_files(["../../logs/a"]) == ["../../logs/a/deep.log"]
    assert find_files(["."]) == ["deep.log"]


def test_globs_and_names_give_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read twice, a file would be counted twice."""
    for name in ("audit-1.log", "audit-2.log", "x/audit-3.log", "[odd].log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(TEXT)
    monkeypatch.chdir(tmp_path)
    assert find_files(["audit-*.log"]) == ["audit-1.log", "audit-2.log"]
    assert find_files(["**/audit-3.log", "x"]) == ["x/audit-3.log"]
    assert find_files(["audit-2.log", "./audit-2.log", "audit-?.log"]) == ["audit-2.log", "audit-1.log"]
    assert find_files([f"{tmp_path}/audit-*.log"]) == [f"{tmp_path}/audit-1.log", f"{tmp_path}/audit-2.log"]
    assert find_files(["[odd].log", "-", "-"]) == ["[odd].log", "-"]


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    """A path, a glob without a match, an empty folder, a name that no file can have."""
    (tmp_path / "empty").mkdir()
    missing = [f"{tmp_path}/nosuch.log", f"{tmp_path}/*.gz", f"{tmp_path}/empty", "x" * 300]
    with pytest.raises(UsageError) as caught:
        find_files([*missing, "-"])
    assert all(path in str(caught.value) for path in missing)


def test_a_file_that_has_gone_meanwhile_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    """A rotation may come between finding and reading."""
    (tmp_path / "b").write_bytes(TEXT)
    read = batches(tmp_path / "gone", tmp_path / "b")
    assert values(read) == LINES
    assert reasons(read) == [("unreadable_file", 0)]


def timed(*minutes: float, in_text: bool = False) -> bytes:
    """Events of these minutes, so long that a few fill a block."""
    lines = [
        line(stageTimestamp=f"2026-11-23T09:{minute:06.3f}Z".replace(".", ":", 1), userAgent="x" * 20_000)
        for minute in minutes
    ]
    if in_text:
        lines = [b'{"log":"' + text.replace(b'"', b'\\"') + b'"}' for text in lines]
    return b"\n".join(lines)


@pytest.mark.parametrize("in_text", [False, True], ids=["native", "in a text field"])
def test_files_that_overlap_are_read_side_by_side(tmp_path: Path, *, in_text: bool) -> None:
    """The one that lags behind is always read next, so that event time moves on evenly."""
    minutes = range(40)
    (tmp_path / "a.log").write_bytes(timed(*minutes, in_text=in_text))
    (tmp_path / "b.log.gz").write_bytes(gzip.compress(timed(*minutes, in_text=in_text)))
    order = [place.partition(":") for place in places(batches(tmp_path / "a.log", tmp_path / "b.log.gz"))]
    ahead = {"a.log": 0, "b.log.gz": 0}
    for name, _, number in order:
        ahead[name] = int(number)
        assert max(ahead.values()) - min(ahead.values()) < 20
    assert ahead == {"a.log": 40, "b.log.gz": 40}


def test_files_that_follow_one_another_are_read_in_order_of_time(tmp_path: Path) -> None:
    """Whatever their names, and however they are packed; one that tells no time comes first."""
    (tmp_path / "a.log").write_bytes(timed(30, 31))
    (tmp_path / "b.log").write_bytes(gzip.compress(timed(10, 11)))
    (tmp_path / "c.log").write_bytes(zstd(timed(20, 21)))
    (tmp_path / "d.log").write_bytes(b"no event\n")
    read = batches(*(tmp_path / f"{name}.log" for name in "abcd"))
    assert places(read) == ["d.log:1", "b.log:1", "b.log:2", "c.log:1", "c.log:2", "a.log:1", "a.log:2"]


def test_a_stopped_source_ends_after_the_batch_in_hand(tmp_path: Path) -> None:
    """And closes its files."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(lines_of(20_000))
    source = FileSource([str(tmp_path / "a"), str(tmp_path / "b")])
    given = 0
    for _ in source:
        given += 1
        source.stop()
    assert given == 1


def test_what_was_read_is_told_in_bytes_on_disk(tmp_path: Path) -> None:
    """A progress bar needs both."""
    (tmp_path / "a").write_bytes(TEXT)
    (tmp_path / "b").write_bytes(gzip.compress(lines_of(20_000)))
    source = FileSource([str(tmp_path / "a"), str(tmp_path / "b")])
    for _ in source:
        pass
    assert source.bytes_read == source.bytes_total == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_pipe_is_read_as_it_comes_and_only_once(tmp_path: Path) -> None:
    """As `<(zcat archive)` gives one: what is looked at beforehand would be lost."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(TEXT),))
    writer.start()
    read = batches(*find_files([str(pipe)]))
    writer.join()
    assert values(read) == LINES


@pytest.fixture
def stdin() -> Iterator[int]:
    """The end of a pipe at which to write what standard input is to be."""
    before = os.dup(0)
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.close(reading)
    yield writing
    os.dup2(before, 0)
    os.close(before)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_standard_input_is_read_like_a_file(stdin: int, content: bytes) -> None:
    """Packed in any way."""
    os.write(stdin, content)
    os.close(stdin)
    assert values(batches("-")) == LINES


def test_lines_on_standard_input_are_given_as_they_come(stdin: int) -> None:
    """Nobody waits for a block to be full."""
    given = iter(FileSource(["-"]))
    os.write(stdin, b"one\ntw")
    assert list(next(given).values) == [b"one"]
    os.write(stdin, b"o\n")
    assert list(next(given).values) == [b"two"]
    os.close(stdin)
    assert list(given) == []


def test_silent_standard_input_does_not_hold_up_a_stop(stdin: int) -> None:
    """Nothing more comes, and the pipe stays open."""
    source = FileSource(["-"])
    os.write(stdin, b"one\n")
    given = iter(source)
    assert list(next(given).values) == [b"one"]
    source.stop()
    assert list(given) == []
    os.close(stdin)
