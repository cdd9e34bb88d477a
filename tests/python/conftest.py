"""Shared fixtures. Cases and tests of an operator are in tests/python/<family>/."""

import sys
from pathlib import Path

# Test modules of a family import their own cases_<op>.py by name.
for family in Path(__file__).parent.iterdir():
    if family.is_dir():
        sys.path.insert(0, str(family))
