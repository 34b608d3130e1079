def test_placeholder() -> None:
    import functions.receiver  # noqa: F401
