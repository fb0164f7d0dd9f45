"""The one reader: what a body, an item and a query may hold (reliability.md, B1-B19, B58)."""

from __future__ import annotations

import gzip
import json
import math
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from tower import reading
from tower.errors import TowerError
from tower.reading import Query, items, one, parse, read_batch, read_body, refusal, unfit
from tower.schemas import ActorType, Id, TaskEvent

EVENT = {
    "event_id": "e1",
    "trace_id": "t",
    "task_id": "a",
    "parent_id": None,
    "actor_type": "AGENT",
    "event_type": "PROGRESS",
    "payload": {"progress": 5.5, "message": "on it", "attempt": 1},
    "timestamp_ms": 1734564690123,
}


def post(body: bytes = b"[]", content_type: str = "application/json", **more: Any) -> Any:
    return RequestFactory().generic("POST", "/api/v1/events/", body, content_type=content_type, **more)


def refused(raw: bytes) -> TowerError:
    with pytest.raises(TowerError) as caught:
        parse(raw)
    return caught.value


def fault(text: str, **kwargs: Any) -> tuple[str, str] | None:
    found = unfit(parse(text.encode()), **kwargs)
    return (found.code, found.details["field"]) if found else None


# -- bytes


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (b"", 0),
        (b"{", 1),
        (b'{"a":1,}', 7),
        (b"{}{}", 2),
        (b'{"a":"\n"}', 6),
        (b'{"a":1,\n"b":x}', 12),
        (b"[1 2]", 3),
        (b"nope", 1),
    ],
)
def test_b1_what_is_not_json_is_refused_with_its_place(text: bytes, offset: int) -> None:
    error = refused(text)

    assert (error.code, error.http_status) == ("invalid_json", 400)
    assert abs(error.details["offset"] - offset) <= 1


@pytest.mark.parametrize("raw", [b'{"a":"\xff"}', '{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-32")])
def test_b2_only_utf8_is_read(raw: bytes) -> None:
    assert refused(raw).code == "invalid_json"


def test_b2_a_byte_order_mark_is_stripped() -> None:
    assert parse(b"\xef\xbb\xbf" + b'{"a":1}') == {"a": 1}


@pytest.mark.parametrize("text", [b"null", b"5", b'"x"', b"true"])
def test_b3_a_scalar_is_no_body(text: bytes) -> None:
    for shape in (lambda value: items(value, 10), one):
        with pytest.raises(TowerError) as caught:
            shape(parse(text))
        assert caught.value.code == "invalid_body"


def test_b3_an_empty_list_is_an_empty_batch() -> None:
    assert items(parse(b"[]"), 10) == []


def test_b4_what_a_list_holds_is_left_to_each_item() -> None:
    assert items(parse(b'[null,[],5,{"a":1}]'), 10) == [None, [], 5, {"a": 1}]
    nothing: list[Any] = [None, [], 5]
    assert [unfit(item) for item in nothing] == [None, None, None]


def test_b6_a_batch_over_the_limit_is_refused_whole() -> None:
    with pytest.raises(TowerError) as caught:
        items([{}] * 11, 10)

    assert (caught.value.code, caught.value.http_status) == ("batch_too_large", 413)
    assert caught.value.details == {"limit": 10}


def test_b7_a_declared_length_over_the_limit_is_refused_unread(settings: Any) -> None:
    settings.TOWER_MAX_BODY_BYTES = 1024
    request = post(b"[]", CONTENT_LENGTH="1025")
    request._stream = None  # reading it would fail

    with pytest.raises(TowerError) as caught:
        read_body(request)

    assert (caught.value.code, caught.value.http_status) == ("body_too_large", 413)


def test_b7_a_body_without_length_is_read_up_to_the_limit(settings: Any) -> None:
    settings.TOWER_MAX_BODY_BYTES = 1024
    short, long = post(b" " * 1024), post(b" " * 1025)
    for request in (short, long):
        del request.META["CONTENT_LENGTH"]
        request._read_started = False
        request._body = request._stream.read()

    assert read_body(short) == b" " * 1024
    with pytest.raises(TowerError) as caught:
        read_body(long)
    assert caught.value.code == "body_too_large"


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "identity, gzip", "x-gzip"])
def test_b9_another_encoding_is_415(encoding: str) -> None:
    with pytest.raises(TowerError) as caught:
        read_body(post(headers={"content-encoding": encoding}))

    assert (caught.value.code, caught.value.http_status) == ("unsupported_encoding", 415)


PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": reading.zstd.compress}


@pytest.mark.parametrize("encoding", PACK)
def test_a_packed_body_is_read(encoding: str) -> None:
    assert read_body(post(PACK[encoding](b"[1]"), headers={"content-encoding": encoding})) == b"[1]"


@pytest.mark.parametrize("encoding", PACK)
def test_b8_a_body_that_unpacks_to_too_much_is_413_in_flat_memory(encoding: str, settings: Any) -> None:
    settings.TOWER_MAX_BODY_BYTES = 1 << 20
    bomb = PACK[encoding](b" " * (200 << 20))
    assert len(bomb) < settings.TOWER_MAX_BODY_BYTES

    tracemalloc.start()
    with pytest.raises(TowerError) as caught:
        read_body(post(bomb, headers={"content-encoding": encoding}))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (caught.value.code, caught.value.http_status) == ("body_too_large", 413)
    assert most < 16 << 20


def test_b8_a_frame_that_asks_for_a_large_window_is_refused() -> None:
    options = {int(reading.zstd.CompressionParameter.window_log): 27}
    body = reading.zstd.compress(b"x" * 1000, options=options)
    large = reading.zstd.ZstdCompressor(options=options)
    streamed = large.compress(b"[" + b"1," * 1000 + b"1]") + large.flush()

    assert read_body(post(body, headers={"content-encoding": "zstd"})) == b"x" * 1000
    with pytest.raises(TowerError) as caught:
        read_body(post(streamed, headers={"content-encoding": "zstd"}))
    assert caught.value.code == "invalid_encoding"


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("damage", ["cut", "more", "other", "nothing", "twice"])
def test_b9_what_is_not_one_whole_piece_is_400(encoding: str, damage: str) -> None:
    whole = PACK[encoding](b"[" + b"12345," * 999 + b"1]")
    body = {
        "cut": whole[:-3], "more": whole + b"more", "other": b"[]", "nothing": b"", "twice": whole + whole,
    }[damage]  # fmt: skip

    with pytest.raises(TowerError) as caught:
        reading.unpacked(body, encoding)

    assert (caught.value.code, caught.value.http_status) == ("invalid_encoding", 400)


def test_b8_only_one_layer_is_taken_off() -> None:
    inner = gzip.compress(b"[]")

    assert read_body(post(gzip.compress(inner), headers={"content-encoding": "gzip"})) == inner


def test_a_line_is_an_item() -> None:
    body = b'{"a": 1}\n{"b": 2}\r\n3\n'

    assert read_batch(post(body, "application/x-ndjson")) == [{"a": 1}, {"b": 2}, 3]
    assert reading.batch(b"", reading.LINES) == []


def test_b5_a_broken_line_stands_for_itself_under_its_number() -> None:
    found = read_batch(post(b'{"a": 1}\n{"b":\n\n{"c": 3}', "application/x-ndjson"))

    assert (found[0], found[3]) == ({"a": 1}, {"c": 3})
    assert [found[k].refusal.code for k in (1, 2)] == ["invalid_json", "invalid_json"]
    assert found[1].refusal.message.startswith("The line")


def test_b6_too_many_lines_are_413(settings: Any) -> None:
    settings.TOWER_MAX_BATCH = 2

    with pytest.raises(TowerError) as caught:
        read_batch(post(b"1\n2\n3\n", "application/x-ndjson"))

    assert (caught.value.code, caught.value.details) == ("batch_too_large", {"limit": 2})


def test_lines_are_not_for_a_body_of_one_object() -> None:
    with pytest.raises(TowerError) as caught:
        read_body(post(b"{}\n", "application/x-ndjson"))

    assert caught.value.code == "unsupported_media_type"


def test_b9_identity_is_no_encoding() -> None:
    assert read_body(post(headers={"content-encoding": "Identity"})) == b"[]"


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/jsonx",
        "application/json-seq",
        "application/x-ndjson",
    ],
)
def test_b10_another_media_type_is_415(kind: str) -> None:
    with pytest.raises(TowerError) as caught:
        read_body(post(content_type=kind))

    assert (caught.value.code, caught.value.http_status) == ("unsupported_media_type", 415)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; Charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json;",
    ],
)
def test_b10_json_in_utf8_is_read(kind: str) -> None:
    assert read_body(post(content_type=kind)) == b"[]"


# -- depth


@pytest.mark.parametrize("levels", [65, 100, 199])
def test_b12_an_item_deeper_than_64_is_refused_alone(levels: int) -> None:
    deep = "[" * (levels - 1) + "]" * (levels - 1)

    assert fault(f'{{"a":{deep}}}')[0] == "too_deep"  # type: ignore[index]
    assert len(parse(b'[{"a":%s},{}]' % deep.encode())) == 2


def test_b12_an_item_is_level_one_and_64_are_taken() -> None:
    assert fault('{"a":' + "[" * 63 + "]" * 63 + "}") is None
    assert fault("[" * 64 + "]" * 64) is None


@pytest.mark.parametrize("levels", [202, 1_000, 100_000])
@pytest.mark.parametrize("also", ["", r'"\ud800",'])
def test_b12_a_body_of_200_levels_and_more_is_refused_whole(levels: int, also: str) -> None:
    text = "[" + also + "[" * (levels - 1) + "]" * (levels - 1) + "]"

    assert refused(text.encode()).code == "too_deep"


# -- numbers and strings


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e200000"])
def test_b13_a_number_that_is_not_finite_is_refused(number: str) -> None:
    assert fault(f'{{"payload":{{"v":[1,{number}]}}}}') == ("number_out_of_range", "payload.v.1")


@pytest.mark.parametrize("number", [2**63, -(2**63), 10**30, -(10**4000)])
def test_b14_an_integer_beyond_64_bits_is_refused(number: int) -> None:
    assert fault(f'{{"payload":{{"v":{number}}}}}') == ("number_out_of_range", "payload.v")


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63) + 1, 0])
def test_b14_an_integer_of_64_bits_is_taken(number: int) -> None:
    assert fault(f'{{"payload":{{"v":{number}}}}}') is None


@pytest.mark.parametrize("also", ["", r'"\ud800",'])
def test_b14_five_thousand_digits_are_no_json(also: str) -> None:
    assert refused(("[" + also + "9" * 5000 + "]").encode()).code == "invalid_json"


def test_b14_a_field_with_a_code_of_its_own_is_left_to_it() -> None:
    skip = frozenset({"timestamp_ms", "payload.attempt"})

    assert fault(f'{{"timestamp_ms":{2**70},"payload":{{"attempt":{2**70}}}}}', skip=skip) is None
    assert fault(f'{{"timestamp_ms":{2**70},"payload":{{"v":{2**70}}}}}', skip=skip) == (
        "number_out_of_range",
        "payload.v",
    )
    assert fault('{"timestamp_ms":NaN}', skip=skip) == ("number_out_of_range", "timestamp_ms")


def test_b15_of_two_equal_keys_the_last_wins() -> None:
    assert parse(b'{"v":1,"v":2}') == {"v": 2}
    assert parse(rb'{"v":1,"v":2,"w":"\ud800"}')["v"] == 2


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (r'{"a":"\u0000"}', "a"),
        (r'{"p":{"x":["ok","a\u0000b"]}}', "p.x.1"),
        (r'{"a\u0000":1}', r"a\x00"),
        (r'{"p":{"a\u0000":1}}', r"p.a\x00"),
    ],
)
def test_b16_a_nul_is_refused_in_values_and_keys(text: str, place: str) -> None:
    assert fault(text) == ("invalid_string", place)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (r'{"a":"\ud800"}', "a"),
        (r'{"a":"\udc00x"}', "a"),
        (r'{"a":"\ud800A"}', "a"),
        (r'{"\ud800":1}', r"\ud800"),
        (r'{"é\udfff":1}', r"\xe9\udfff"),
    ],
)
def test_b17_half_a_character_is_refused_alone(text: str, place: str) -> None:
    batch = parse(("[" + text + ',{"fine":"\\ud83d\\ude00"}]').encode())

    assert (unfit(batch[0]).code, unfit(batch[0]).details["field"]) == ("invalid_string", place)  # type: ignore[union-attr]
    assert unfit(batch[1]) is None and batch[1] == {"fine": "\U0001f600"}


def test_b17_what_a_refusal_says_can_be_sent() -> None:
    from tower.api import answer

    found = unfit(parse(rb'{"\ud800\u0000":1}'))

    assert found and b"invalid_string" in answer({"rejected": [{"error": found.as_json()}]}).content


def test_b18_marks_and_emoji_are_taken() -> None:
    assert fault('{"message":"\\u202eabc\\u200b🗼","é":"ü"}') is None


def test_b19_ten_thousand_keys_are_no_fault() -> None:
    assert unfit({f"k{n}": n for n in range(10_000)}) is None


def test_a_hostile_key_is_shown_short() -> None:
    found = unfit({"k" * 100_000: {"x" * 100_000: math.nan}})

    assert found and len(found.details["field"]) <= 2 * 64 + 1 and len(found.message) < 600


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=200))
def test_p10_any_bytes_give_a_value_or_a_refusal(raw: bytes) -> None:
    try:
        parse(raw)
    except TowerError as error:
        assert error.code in {"invalid_json", "too_deep"} and error.http_status == 400


@given(JSON)
def test_p10_what_is_fit_comes_back_equal_from_any_writer(value: Any) -> None:
    import orjson

    read = parse(json.dumps(value).encode())

    if unfit(read) is None:
        assert orjson.loads(orjson.dumps(read)) == read
        assert json.loads(json.dumps(read)) == read


@given(JSON)
def test_the_quick_look_and_the_one_with_paths_agree(value: Any) -> None:
    quick = reading.fits(value, 64)

    assert quick == (reading._fault(value, "", 64, ()) is None)


def test_one_refuses_for_the_whole_request() -> None:
    with pytest.raises(TowerError) as caught:
        one({"reason": "a\0"})

    assert (caught.value.code, caught.value.http_status, caught.value.details) == (
        "invalid_string",
        400,
        {"field": "reason"},
    )


# -- pydantic


class Body(BaseModel):
    id: Id
    kind: ActorType | None = None
    at: int = 0

    @field_validator("id")
    @classmethod
    def _free(cls, value: str) -> str:
        if value == "global_action":
            raise PydanticCustomError("reserved_id", "This id is reserved")
        return value


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        ({}, "missing_field", "id"),
        ({"id": "a b"}, "invalid_id", "id"),
        ({"id": 5}, "invalid_id", "id"),
        ({"id": "global_action"}, "reserved_id", "id"),
        ({"id": "a", "kind": "agent"}, "unknown_enum", "kind"),
        ({"id": "a", "at": "x"}, "invalid_type", "at"),
    ],
)
def test_a_fault_of_pydantic_has_a_code_of_ours(body: Any, code: str, place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(body)

    found = refusal(caught.value, {"id": "invalid_id", "id:reserved_id": "reserved_id"})

    assert (found.code, found.details["field"]) == (code, place)


def test_b26_an_unknown_word_names_those_that_are_known() -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"id": "a", "kind": ""})

    assert refusal(caught.value).details["allowed"] == ["AGENT", "GROUP_AGG", "SINGLE_AGG", "EXECUTION"]


def test_b27_a_kind_of_fault_at_a_field_may_have_its_own_code() -> None:
    with pytest.raises(ValidationError) as caught:
        TaskEvent.model_validate({**EVENT, "timestamp_ms": -1})

    found = refusal(caught.value, {"timestamp_ms:greater_than_equal": "timestamp_out_of_range"})

    assert (found.code, found.details["field"]) == ("timestamp_out_of_range", "timestamp_ms")


# -- the query


def query(text: str, *allowed: str) -> Query:
    return Query(RequestFactory().get(f"/x?{text}"), allowed=frozenset(allowed))


@pytest.mark.parametrize("text", ["nonsense=1", "q=%00", "q=a&limt=5", "%00=1"])
def test_b58_b16_an_unknown_parameter_or_a_nul_is_refused_by_name(text: str) -> None:
    with pytest.raises(TowerError) as caught:
        query(text, "q")

    assert caught.value.code == "invalid_query" and caught.value.details["field"]


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "1e3", "٣", " 1", "9" * 20])
def test_b58_a_limit_that_is_no_positive_number_is_refused(value: str) -> None:
    with pytest.raises(TowerError) as caught:
        query(f"limit={value}", "limit").integer("limit", 50, 1, 500)

    assert (caught.value.code, caught.value.details["field"]) == ("invalid_query", "limit")


def test_b58_too_high_a_limit_is_cut_and_none_is_the_default() -> None:
    assert query("limit=100000", "limit").integer("limit", 50, 1, 500) == 500
    assert query("limit=", "limit").integer("limit", 50, 1, 500) == 50
    with pytest.raises(TowerError):
        query("limit=501", "limit").integer("limit", 50, 1, 500, cut=False)


@pytest.mark.parametrize("value", ["0000-01-01", "yesterday", "10000-01-01T00:00:00Z", "1", "2024-13-01"])
def test_b58_what_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(TowerError) as caught:
        query(f"created_after={value}", "created_after").when("created_after")

    assert caught.value.details["field"] == "created_after"


@pytest.mark.parametrize(
    "value",
    [
        "2024-12-18T23:31:30Z",
        "2024-12-18T23:31:30",
        "2024-12-19T00:31:30%2B01:00",
        "2024-12-19T00:31:30+01:00",
        "2024-12-18%2023:31:30",
    ],
)
def test_a_time_without_offset_is_utc_and_an_unescaped_plus_is_understood(value: str) -> None:
    found = query(f"created_after={value}", "created_after").when("created_after")

    assert found == datetime(2024, 12, 18, 23, 31, 30, tzinfo=UTC)


def test_b60_a_text_has_its_length() -> None:
    assert query("q=%25", "q").text("q", 200) == "%"
    with pytest.raises(TowerError):
        query("q=" + "x" * 201, "q").text("q", 200)


def test_a_choice_is_one_of_the_options() -> None:
    assert query("status=RUNNING", "status").choice("status", ["RUNNING"]) == "RUNNING"
    assert query("", "status").choice("status", ["RUNNING"]) == ""
    with pytest.raises(TowerError):
        query("status=running", "status").choice("status", ["RUNNING"])
