"""`homeroom fake-daily`: a Daily.co to try the provider `daily` against, and to test with.

It speaks real HTTP, and has no audio or video. It fails when it is asked to (`Trouble`), before it has done what it
was asked for, or after.
"""

from server.demo.fake_daily.fake import KEY, FakeDaily
from server.demo.fake_daily.serving import serving
from server.demo.fake_daily.shapes import Trouble
from server.demo.fake_daily.signing import SECRET, envelope, signed

__all__ = ["KEY", "SECRET", "FakeDaily", "Trouble", "envelope", "serving", "signed"]
