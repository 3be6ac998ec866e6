"""Applications of the frameworks, with the same routes each: what `test_frameworks` asks for."""
