"""An independent audit of results: plain data in, True or an error out.

Nothing here imports cvxpy, numba or the code that made the certificate; only numpy and scipy touch
the numbers.
"""

from __future__ import annotations

from occlp.verify.audit import check_certificate as check_certificate
from occlp.verify.audit import verify as verify
