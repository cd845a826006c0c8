"""Frames: every kind of source, and every way in which one can be broken."""

from __future__ import annotations

import wave
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput, NotFound, TooLarge
from keepfit.tasks.video.decoding import Frame, fitted
from keepfit.tasks.video.frames import facts, read_frames, video_hash
from keepfit.tasks.video.live import follow_stream

Images = NDArray[np.uint8]


def ramp(n: int, height: int = 48, width: int = 64) -> Images:
    """Frame i is grey 10 + 4 i with a white corner at the top left."""
    images = np.repeat((10 + 4 * np.arange(n, dtype=np.uint8))[:, None], height * width, 1).reshape(n, height, width)
    images[:, : height // 4, : width // 4] = 255
    return images


def noise(n: int, height: int = 48, width: int = 64) -> Images:
    return np.random.default_rng(0).integers(0, 255, (n, height, width), dtype=np.uint8)


def write(
    path: Path,
    images: Images,
    codec: str = "libx264",
    stamps: Sequence[int] | None = None,
    rotation: int = 0,
    fast: bool = False,
) -> Path:
    """Ten frames a second, or stamps in milliseconds."""
    pixels = {"mjpeg": "yuvj420p", "gif": "gray", "ffv1": "gray", "png": "gray", "bmp": "gray"}.get(codec, "yuv420p")
    with av.open(str(path), "w", options={"movflags": "faststart"} if fast else {}) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.height, stream.width = images.shape[1:]
        stream.pix_fmt = pixels
        if rotation:
            stream.set_display_rotation(rotation)
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        container.start_encoding()
        for place, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[place], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def picture(path: Path, grey: int, codec: str = "png", height: int = 48, width: int = 64) -> Path:
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width, encoder.pix_fmt = height, width, "yuvj420p" if codec == "mjpeg" else "gray"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    frame = av.VideoFrame.from_ndarray(np.full((height, width), grey, np.uint8), format="gray")
    frame = frame.reformat(format=encoder.pix_fmt, dst_color_range="JPEG")
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))
    return path


def greys(frames: Iterator[Frame]) -> list[int]:
    return [int(frame.image[-1, -1]) for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.mov", "mjpeg"), ("a.gif", "gif")],
)
def test_every_container_gives_every_frame_in_order_and_in_grey(tmp_path: Path, name: str, codec: str) -> None:
    path = write(tmp_path / name, ramp(12), codec)
    frames = list(read_frames(path))
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 10 for number in range(12)])
    assert [frame.start for frame in frames] == [True] + [False] * 11
    assert all(frame.image.shape == (48, 64) and frame.image.dtype == np.uint8 for frame in frames)
    assert greys(iter(frames)) == pytest.approx([10 + 4 * number for number in range(12)], abs=4)
    assert frames[0].image[0, 0] > 245, "grey spans 0 to 255, whatever the video's range"


def test_first_and_stop_cut_by_number_and_keep_the_times(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", ramp(20))
    whole = list(read_frames(path))
    part = list(read_frames(path, first=7, stop=11))
    assert [(frame.number, frame.time_s) for frame in part] == [(f.number, f.time_s) for f in whole[7:11]]
    assert all(np.array_equal(frame.image, whole[frame.number].image) for frame in part)
    assert [frame.start for frame in part] == [True, False, False, False]
    assert not list(read_frames(path, first=20)), "there is nothing after the end"
    assert not list(read_frames(path, stop=0))


@pytest.mark.parametrize(
    ("size", "long_side", "wanted"),
    [
        ((64, 48), 32, (32, 24)),
        ((64, 48), 384, (64, 48)),
        ((63, 47), 384, (62, 46)),
        ((48, 64), 33, (24, 32)),
        ((200, 4), 100, (100, 16)),
        ((8, 6), 384, (16, 16)),
    ],
)
def test_pictures_are_shrunk_to_even_sides_and_never_enlarged_beyond_the_smallest(
    tmp_path: Path, size: tuple[int, int], long_side: int, wanted: tuple[int, int]
) -> None:
    assert fitted(*size, long_side) == wanted
    path = write(tmp_path / "a.mkv", ramp(2, size[1], size[0]), "ffv1")
    assert next(read_frames(path, long_side)).image.shape == (wanted[1], wanted[0])


def test_shrinking_takes_means_of_areas(tmp_path: Path) -> None:
    image = noise(1, 64, 64)
    small = next(read_frames(write(tmp_path / "a.mkv", image, "ffv1"), 16)).image
    assert np.abs(small - image[0].reshape(16, 4, 16, 4).mean((1, 3))).max() <= 2


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_a_video_is_turned_as_it_says(tmp_path: Path, degrees: int, turns: int) -> None:
    path = write(tmp_path / "a.mp4", ramp(3), rotation=degrees)
    image = next(read_frames(path)).image
    shown = np.rot90(ramp(1)[0], turns)
    assert image.shape == shown.shape
    assert np.abs(image.astype(int) - shown)[::8, ::8].mean() < 12
    said = facts(path)
    assert (said.height, said.width, said.rotation) == (*shown.shape, 90 * turns)


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    stamps = [0, 100, 150, 600, 640, 1500]
    path = write(tmp_path / "a.mkv", ramp(6), stamps=stamps)
    assert [frame.time_s for frame in read_frames(path)] == pytest.approx([stamp / 1000 for stamp in stamps])
    assert facts(path).variable_rate
    assert not facts(write(tmp_path / "b.mkv", ramp(6))).variable_rate


class Stamped:
    """A container of real frames whose stamps are replaced; None leaves one out. Breaks, if told so, at its end."""

    def __init__(self, path: Path, stamps: Sequence[float | None], duration: int | None, breaks: bool) -> None:
        self._container = av.open(str(path))
        self.streams, self.duration = self._container.streams, duration
        self._stamps, self._breaks = stamps, breaks

    def demux(self, stream: Any) -> Iterator[Any]:
        packets = [packet for packet in self._container.demux(stream) if packet.size]
        for packet, stamp in zip(packets, self._stamps, strict=False):
            packet.pts = packet.dts = None if stamp is None else round(stamp / packet.time_base)
            yield packet
        if self._breaks:
            raise av.error.ConnectionResetError(104, "Connection reset by peer", "rtsp://user:secret@host/x")

    def close(self) -> None:
        self._container.close()


def test_stamps_that_are_missing_repeat_or_jump_back_are_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", ramp(10), "mjpeg")
    stamps = [5.0, 5.1, None, 5.1, 5.4, 0.0, 9.0, 9.0, 9.1, 9.5]
    frames = follow_stream("rtsp://host/x", open_=lambda _: Stamped(path, stamps, 1, False))
    times = [frame.time_s for frame in frames]
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 4.0, 4.1, 4.2, 4.5])


def test_a_damaged_frame_is_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", noise(10), "mjpeg")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][4]
        where, size = packet.pos + 8, packet.size - 8
    data = bytearray(path.read_bytes())
    data[where : where + size] = bytes(size)
    path.write_bytes(data)
    counts: list[int] = []
    frames = list(read_frames(path, lost=counts.append))
    assert [frame.number for frame in frames] == list(range(9))
    assert counts == [1]
    assert frames[4].time_s == pytest.approx(0.5), "the gap stays in the times"


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "fast.mp4"])
def test_a_file_that_is_cut_off_gives_the_frames_that_it_has(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, noise(40), "mpeg4" if name == "a.avi" else "libx264", fast=name == "fast.mp4")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    assert 10 <= len(list(read_frames(path))) < 40


def test_a_file_without_its_index_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", noise(40))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(InvalidInput, match="is broken"):
        list(read_frames(path))


def test_a_text_an_empty_file_sound_alone_and_no_frames_are_refused(tmp_path: Path) -> None:
    text, empty, sound = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "sound.wav"
    text.write_text("This is no video.\n" * 40)
    empty.touch()
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(4000))
    none = write(tmp_path / "none.mkv", ramp(0), "ffv1")
    for path, words in [(text, "no video"), (empty, "no video"), (sound, "sound but no"), (none, "none.mkv")]:
        for read in (lambda path: list(read_frames(path)), facts):
            with pytest.raises(InvalidInput, match=words) as caught:
                read(path)
            assert caught.value.field == "video"
    with pytest.raises(NotFound, match="there is no"):
        read_frames(tmp_path / "nowhere.mp4")


def test_a_list_of_other_files_is_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.mkv", ramp(3))
    for name, text in [
        ("a.mp4", f"ffconcat version 1.0\nfile {secret.name}\n"),
        ("b.mp4", f"#EXTM3U\n#EXTINF:1,\n{secret}\n"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidInput):
            list(read_frames(tmp_path / name))


def test_one_frame_and_a_black_video_are_videos(tmp_path: Path) -> None:
    assert greys(read_frames(write(tmp_path / "one.mp4", ramp(1)))) == pytest.approx([10], abs=2)
    black = write(tmp_path / "black.mp4", np.zeros((5, 48, 64), np.uint8))
    assert greys(read_frames(black)) == [0] * 5
    assert facts(tmp_path / "one.mp4").fps > 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of open files")
def test_a_reader_that_stops_early_lets_go_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", ramp(20))

    def held() -> int:
        return sum(path.samefile(link) for link in Path("/proc/self/fd").iterdir() if link.exists())

    frames = read_frames(path)
    next(frames)
    assert held() == 1
    frames.close()
    assert held() == 0
    list(read_frames(path, stop=3))
    assert held() == 0


def test_a_file_that_changes_while_it_is_read_is_refused_at_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", ramp(5), "mjpeg")
    frames = read_frames(path)
    next(frames)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(InvalidInput, match="changed while it was read"):
        list(frames)


def test_a_folder_of_pictures_is_a_video_in_natural_order(tmp_path: Path) -> None:
    for place, (name, codec) in enumerate(
        [("f1.png", "png"), ("f2.bmp", "bmp"), ("f10.jpg", "mjpeg"), ("f%03d.png", "png")]
    ):
        picture(tmp_path / name, 20 + 40 * place, codec)
    (tmp_path / ".f0.png").write_bytes(b"hidden")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "f3.png").write_bytes(b"broken")
    counts: list[int] = []
    frames = list(read_frames(tmp_path, fps=4, lost=counts.append))
    assert greys(iter(frames)) == pytest.approx([20, 60, 100, 140], abs=1)
    assert [frame.time_s for frame in frames] == [0, 0.25, 0.5, 0.75]
    assert counts == [1]
    said = facts(tmp_path, fps=4)
    assert (said.width, said.height, said.fps, said.duration_s) == (64, 48, 4, 1.25)
    assert greys(read_frames(tmp_path / "f2.bmp")) == pytest.approx([60], abs=1), "one picture is a video of one frame"


def test_pictures_of_other_sizes_get_the_size_of_the_first(tmp_path: Path) -> None:
    picture(tmp_path / "1.png", 50)
    picture(tmp_path / "2.png", 60, height=100, width=30)
    assert [frame.image.shape for frame in read_frames(tmp_path)] == [(48, 64)] * 2


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    for read in (lambda path: list(read_frames(path)), facts):
        with pytest.raises(InvalidInput, match="no frame"):
            read(tmp_path)


def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (20_000).to_bytes(4, "big") + (10_000).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(TooLarge, match="100 million pixels"):
        list(read_frames(tmp_path))


def test_facts_are_what_the_header_says(tmp_path: Path) -> None:
    said = facts(write(tmp_path / "a.mp4", ramp(30)))
    assert (said.width, said.height, said.fps, said.codec, said.rotation) == (64, 48, 10.0, "h264", 0)
    assert said.duration_s == pytest.approx(3.0, abs=0.2)
    assert said.to_json()["decoder"].startswith("PyAV ")


def test_the_hash_is_that_of_the_bytes_and_of_the_names_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    one = picture(tmp_path / "pictures" / "1.png", 50)
    before = video_hash(tmp_path / "pictures")
    assert len(before) == len(video_hash(one)) == 64
    one.rename(one.with_name("2.png"))
    assert video_hash(tmp_path / "pictures") != before
    with pytest.raises(NotFound):
        video_hash(one)


@pytest.mark.parametrize("wrong", [{"long_side": 8}, {"first": -1}, {"fps": 0.0}])
def test_senseless_numbers_are_refused_at_once(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        read_frames(tmp_path, **wrong)


def test_a_camera_that_breaks_is_followed_on_and_its_frames_are_marked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", ramp(10), "mjpeg")
    pauses: list[float] = []
    tries = iter(["off", "on", "off", "off", "on", "off", "off", "off"])

    def open_(url: str) -> Any:
        if next(tries) == "off":
            raise av.error.ConnectionRefusedError(111, "Connection refused", url)
        return Stamped(path, [7.0, 7.1, 7.2], None, True)

    found: list[Frame] = []
    address = "rtsp://user:secret@host:554/x?key=1"
    with pytest.raises(BackendError, match="Connection refused") as caught:
        found.extend(follow_stream(address, 64, open_, pauses.append, 4))
    assert [frame.number for frame in found] == list(range(6))
    assert [frame.start for frame in found] == [True, False, False] * 2
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert pauses == [1, 1, 2, 4, 1, 2, 4]
    assert "secret" not in str(caught.value)
    assert "key" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None, "a cause would show the password"


def test_a_recording_that_breaks_is_resumed_where_it_broke(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", ramp(10), "mjpeg")
    stamps = [place / 10 for place in range(10)]
    opened = iter([Stamped(path, stamps[:4], 1, True), Stamped(path, stamps, 1, False)])
    frames = list(follow_stream("http://host/x", open_=lambda _: next(opened), pause=lambda _: None))
    assert greys(iter(frames)) == pytest.approx([10 + 4 * number for number in range(10)], abs=2)
    assert [frame.time_s for frame in frames] == pytest.approx(stamps)
    assert [frame.start for frame in frames] == [True] + [False] * 9


def test_a_dead_camera_is_given_up_after_the_retries(tmp_path: Path) -> None:
    def open_(url: str) -> Any:
        raise av.error.TimeoutError(110, "Connection timed out", url)

    pauses: list[float] = []
    with pytest.raises(BackendError, match="rtsp://host/x cannot be followed"):
        next(follow_stream("rtsp://host/x", 64, open_, pauses.append))
    assert pauses == [1, 2, 4, 8]
    with pytest.raises(InvalidInput, match="names no host"):
        next(follow_stream("rtsp://"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, answering: Callable[[Any], AbstractContextManager[str]]) -> Iterator[str]:
    """Of a server of the files in tmp_path."""
    with answering(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))) as found:
        yield found


def test_a_file_on_a_server_is_read_to_its_end(tmp_path: Path, address: str) -> None:
    write(tmp_path / "a.mp4", ramp(12), fast=True)
    with closing(follow_stream(f"{address}/a.mp4", 32)) as frames:
        assert greys(frames) == pytest.approx([10 + 4 * number for number in range(12)], abs=4)
    assert [frame.number for frame in read_frames(f"{address}/a.mp4", first=3, stop=5)] == [3, 4]
