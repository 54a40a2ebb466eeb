"""Configuration: what is valid, what is refused and how, TOML there and back, the fingerprint."""

import re
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest

from systolith import PRESETS, Config, SystolithError, load_config

TINY = PRESETS["tiny4"]

# field -> (values that hold, values that do not), each changed alone in tiny4
VALUES = {
    "array": ([4, 8, 12, 32], [0, 2, 6, 260, -4]),
    "act_depth": ([32, 1024, 1 << 18], [0, 16, 48, 500, 1 << 19]),
    "act_banks": ([1, 2, 16], [0, 3, 17, 64]),
    "weight_depth": ([8, 100, 1 << 18], [7, (1 << 18) + 1]),
    "acc_depth": ([8, 64, 1 << 14], [4, 48, 1 << 15]),
    "param_depth": ([2, 100, 4096], [1, 4097]),
    "sfu_lanes": ([1, 2, 4], [0, 3, 8]),
    "axi_data_bits": ([64, 128, 256], [0, 32, 96, 512]),
    "axi_addr_bits": ([32, 40, 64], [31, 65]),
    "axi_burst": ([1, 16, 32], [0, 3, 512]),
    "axi_outstanding": ([1, 64], [0, 65]),
    "axi_buffer": ([32, 64, 4096], [16, 100, 8192]),
    "queue_depth": ([2, 64], [1, 65]),
    "token_bits": ([2, 8], [1, 9]),
    "dw_taps": ([0, 1, 3, 9], [-1, 2, 4, 10]),
    "dw_depth": ([8, 64, 1 << 14], [4, 48, 1 << 15]),
}


def test_every_size_has_cases():
    assert set(VALUES) == {field.name for field in fields(Config)} - {"name"}


@pytest.mark.parametrize("field", VALUES)
def test_valid(field):
    for value in VALUES[field][0]:
        assert getattr(replace(TINY, **{field: value}), field) == value


@pytest.mark.parametrize("field", VALUES)
def test_out_of_range_is_refused_by_name(field):
    for value in VALUES[field][1]:
        with pytest.raises(SystolithError) as error:
            replace(TINY, **{field: value})
        # A number of banks that does not divide act_depth is act_depth's error.
        named = re.match(r"Config field '(\w+)' must be .+, not -?\d+$", str(error.value))
        assert named and named[1] in ({field, "act_depth"} if field == "act_banks" else {field}), value
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", VALUES)
def test_wrong_type_is_refused_by_name(field):
    for value in ("16", 16.0, None, True):
        with pytest.raises(SystolithError, match=f"^Config field '{field}' must be an integer, not {value!r}$"):
            replace(TINY, **{field: value})


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", 4, None])
def test_name_is_refused(name):
    with pytest.raises(SystolithError, match=r"^Config field 'name' must be letters, digits and underscores, not "):
        replace(TINY, name=name)


def test_burst_fits_4_kib():
    with pytest.raises(SystolithError, match=r"'axi_burst' must be a power of two, at most 256 beats and 4096 bytes"):
        replace(PRESETS["edge32"], axi_burst=256, axi_buffer=512)


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        TINY.array = 8  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", PRESETS)
def test_toml_round_trip(name, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(PRESETS[name].to_toml())
    assert load_config(str(path)) == PRESETS[name]


def test_derived_sizes():
    config = replace(TINY, array=12, axi_data_bits=128, dw_depth=128)
    assert (config.axi_bytes, config.acc_half, config.dw_half, config.psum_bits) == (16, 32, 64, 20)


def test_fingerprint_ignores_the_name_only():
    assert replace(TINY, name="other").fingerprint == TINY.fingerprint
    changed = {replace(TINY, **{field: good[-1]}) for field, (good, _) in VALUES.items()} - {TINY}
    assert len({config.fingerprint for config in changed} | {TINY.fingerprint}) == len(changed) + 1


def test_toml_without_name_is_named_after_the_file(tmp_path):
    path = tmp_path / "my-board.toml"
    path.write_text("\n".join(line for line in TINY.to_toml().splitlines() if not line.startswith("name")))
    assert load_config(str(path)) == replace(TINY, name="my_board")


def test_defaults_may_be_left_out(tmp_path):
    path = tmp_path / "small.toml"
    required = [field.name for field in fields(Config) if field.name in list(asdict(TINY))[:8]]
    path.write_text("".join(f"{line}\n" for line in TINY.to_toml().splitlines() if line.split(" =")[0] in required))
    assert load_config(str(path)).axi_data_bits == 128


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("array = ", "is not valid TOML: "),
        ("arrray = 4", "unknown field 'arrray', expected some of "),
        ("name = 'x'", "field 'acc_depth' is missing"),
        (
            TINY.to_toml().replace("array = 4", "array = 5"),
            "Config field 'array' must be a multiple of 4 from 4 to 256, not 5",
        ),
        (TINY.to_toml().replace("array = 4", "array = '4'"), "Config field 'array' must be an integer, not '4'"),
        (TINY.to_toml().replace("array = 4", "array = [4]"), "Config field 'array' must be an integer, not [4]"),
    ],
)
def test_bad_toml_is_one_line_that_names_the_file(text, message, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SystolithError) as error:
        load_config(str(path))
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_bytes_that_are_not_text(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SystolithError, match=r"is not valid TOML"):
        load_config(str(path))


def test_missing_file_and_unknown_preset(tmp_path):
    with pytest.raises(SystolithError, match=r"none.toml: cannot be read: No such file or directory"):
        load_config(str(tmp_path / "none.toml"))
    with pytest.raises(SystolithError, match=r"^Configuration must be one of tiny4, .* or a .toml file, not 'edge17'$"):
        load_config("edge17")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = " + b"[" * 50_000, "is not valid TOML: "),
        (b"a = " + b"[" * 20_000 + b"]" * 20_000, "is not valid TOML: it is nested too deeply"),
        (b"a = " + b"{b = " * 10_000, "is not valid TOML: "),
        (b"[" + b"a." * 20_000 + b"a]", "unknown field 'a', expected some of "),
        (b"#" * (1 << 16) + b"\n", "must have at most 65536 bytes"),
        (b"array = " + b"9" * 5000, "is not valid TOML: "),
        (
            b"array = 0x" + b"f" * 5000,
            "Config field 'array' must be a multiple of 4 from 4 to 256, not a value of int",
        ),
        (b"array = [0x" + b"f" * 5000 + b"]", "Config field 'array' must be an integer, not a value of list that"),
        pytest.param(
            b"array" + b".a" * 20_000 + b" = 1",
            "Config field 'array' must be an integer, not a value of dict that",
            marks=pytest.mark.slow,
        ),
        (b"array = inf", "Config field 'array' must be an integer, not inf"),
        (b"array = nan", "Config field 'array' must be an integer, not nan"),
        (b"array = 4.0", "Config field 'array' must be an integer, not 4.0"),
        (b"array = true", "Config field 'array' must be an integer, not True"),
        (b"array = 1979-05-27", "Config field 'array' must be an integer, not datetime.date(1979, 5, 27)"),
        (b"array = 1979-13-27", "is not valid TOML: "),
        (b"array = 4\0", "is not valid TOML: "),
        (b"array.b = 4", "Config field 'array' must be an integer, not {'b': 4}"),
        (b"array = '" + b"a" * 9000 + b"'", "Config field 'array' must be an integer, not 'aaaaaaaaaaa"),
        (b"a" * 9000 + b" = 4", "unknown field 'aaaaaaaaaaa"),
        (b'"\\u0000\\u001b[2J\\n" = 4', r"unknown field '\x00\x1b[2J\n', expected some of "),
        (b"name = '" + b"a" * 61 + b"'", "Config field 'name' must have at most 60 characters, not 61"),
        (b'name = "\\ud800"', "is not valid TOML: "),
    ],
)
def test_toml_of_strangers(content, message, tmp_path):
    """One line, whatever it says; the fields that it does not have are those of a preset."""
    path = tmp_path / "bad.toml"
    own = {line.split(b"=")[0].strip() for line in content.splitlines()}
    rest = [line for line in TINY.to_toml().encode().splitlines() if line.split(b" =")[0] not in own | {b"name"}]
    if any(key.startswith(b"array.") for key in own):
        rest.remove(b"array = 4")
    path.write_bytes(b"\n".join([*rest, content]) + b"\n")
    with pytest.raises(SystolithError) as error:
        load_config(str(path))
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_device_without_an_end(tmp_path):
    endless = tmp_path / "endless.toml"
    endless.symlink_to("/dev/zero")
    with pytest.raises(SystolithError, match=r"endless.toml: must have at most 65536 bytes"):
        load_config(str(endless))
    with pytest.raises(SystolithError, match=r"cannot be read: no file has such a name"):
        load_config("a\0b.toml")
