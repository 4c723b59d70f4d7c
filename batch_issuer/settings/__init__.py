"""Options → settings: flags over environment over settings file; secrets by reference."""
