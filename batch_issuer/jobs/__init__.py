"""Whole jobs: one roster or many organizations → runs → results. No ``argparse``, no printing."""
