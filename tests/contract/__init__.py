"""The existing worker and the existing Laravel, as processes that keep the contract."""
