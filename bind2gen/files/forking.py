"""Imported by whatever computes: a forked process computes with one thread.

Those of OpenMP do not come along into it, and its first product of matrices would wait for them for ever.
"""

from __future__ import annotations

import os
from functools import partial

import torch

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
