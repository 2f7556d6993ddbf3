"""The endpoint judge over real HTTP, against a fake judge that fails in every way."""
