import json
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from xrec_dataset_builder import json_lines
from xrec_dataset_builder.fields import DATE, NUMBER, PARAGRAPHS, SECONDS, TEXT, Field

COLUMNS = {
    "user": [Field("u", TEXT, required=True)],
    "number": [Field("n", NUMBER)],
    "seconds": [Field("s", SECONDS)],
    "date": [Field("d", DATE)],
    "text": [Field("l", PARAGRAPHS), Field("t", TEXT)],
}
ODD_LINES = [
    b"", b" ", b"\r", b"{", b"}", b"[1]", b"null", b"{}", b"\xef\xbb\xbf" + b'{"u": "a"}', b'{"u": "a\xff"}',
    b'{"u": "a"} {"u": "b"}',
    b'{"u": "a"}{"u": "b"}', b'{"u": "a", "n": NaN}', b'{"u": "a", "n": 1e999}', b'{"u": "a", "s": 99999999999999999999}',
    b'{"u": "a", "u": "b"}', b'{"u": "\\ud800"}', b'{"u": "a\\u0000"}', b'{"u": "a", "n": "many"}', b'{"u": "a", "d": "soon"}',
    b'{"u": "a", "t": {"b": {}}}', b'{"u": "a", "l": [[1]]}', b'{"u": ""}', b'{"n": 1}', b'{"u": "a"} ', b'\t{"u": "b"}\t',
    b'{"u": "a"}\r',
    b'{"u": "a"', b'{"u": "a}', b'{"u": "a", "n":"1, "s": 2}', b'{"u": "\xe6\x97', b'{"u": "a",}', b"[" * 3000,
]  # fmt: skip


def good(number: int) -> bytes:
    row = {"u": f"u{number}", "n": number / 2, "s": number, "d": "2018-07-07", "l": ["x"], "t": "é" * (number % 7)}
    return json.dumps(row, ensure_ascii=bool(number % 2)).encode()


GOOD = st.integers(0, 40).map(good)
LINES = st.lists(GOOD | GOOD | st.sampled_from(ODD_LINES), max_size=12)


@settings(max_examples=60, deadline=None)
@given(LINES, st.sampled_from([(200, 60), (2000, 500, 100)]), st.booleans())
def test_a_block_is_read_as_line_by_line_whatever_is_wrong_with_it(lines: list[bytes], cuts: tuple[int, ...], ends: bool):
    content = b"\n".join(lines) + b"\n" * ends
    slow = json_lines._parse_slowly(content, COLUMNS)
    with patch.object(json_lines, "CUTS", cuts):
        found = json_lines._parse(content, COLUMNS)
    assert found.problems == slow.problems
    assert found.rows.rows() == slow.rows.rows()
    assert found.rows.schema == slow.rows.schema
