"""Range and condition headers: the whole content, a part, or a refusal."""

import pytest

from server.http.ranges import Window, window

TAG = '"abc"'
WHOLE = Window(200, 0, 100)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, WHOLE),
        ({"Range": "bytes=0-"}, Window(206, 0, 100)),
        ({"Range": "bytes=0-0"}, Window(206, 0, 1)),
        ({"Range": "bytes=10-19"}, Window(206, 10, 20)),
        ({"Range": "bytes=99-1000"}, Window(206, 99, 100)),
        ({"Range": "bytes=-1"}, Window(206, 99, 100)),
        ({"Range": "bytes=-1000"}, Window(206, 0, 100)),
        ({"Range": "bytes=100-"}, Window(416)),
        ({"Range": "bytes=100-200"}, Window(416)),
        ({"Range": "bytes=-0"}, Window(416)),
        # Ranges that may be ignored.
        ({"Range": "bytes=20-10"}, WHOLE),
        ({"Range": "bytes=-"}, WHOLE),
        ({"Range": "bytes=0-1,5-6"}, WHOLE),
        ({"Range": "items=0-1"}, WHOLE),
        ({"Range": "bytes=" + "9" * 5000 + "-"}, WHOLE),
        ({"Range": "bytes=0-1", "If-Range": TAG}, Window(206, 0, 2)),
        ({"Range": "bytes=0-1", "If-Range": '"old"'}, WHOLE),
        ({"Range": "bytes=0-1", "If-Range": f"W/{TAG}"}, WHOLE),
        ({"Range": "bytes=0-1", "If-Range": "Sat, 21 Nov 2026 09:00:00 GMT"}, WHOLE),
        ({"If-None-Match": TAG}, Window(304)),
        ({"If-None-Match": f'"old", W/{TAG}'}, Window(304)),
        ({"If-None-Match": "*"}, Window(304)),
        ({"If-None-Match": '"old"'}, WHOLE),
        ({"If-None-Match": TAG, "Range": "bytes=0-1"}, Window(304)),
        ({"If-Match": TAG}, WHOLE),
        ({"If-Match": "*"}, WHOLE),
        ({"If-Match": '"old"'}, Window(412)),
        ({"If-Match": f"W/{TAG}"}, Window(412)),
    ],
)
def test_range_and_condition_headers_select_status_and_bytes(headers: dict[str, str], expected: Window) -> None:
    assert window(headers, 100, TAG) == expected
