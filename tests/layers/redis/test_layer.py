from __future__ import annotations

from ..contract import ContractTests


class TestContract(ContractTests):
    pass
