"""Drivers in, one outcome each out: run, attempts, verdicts, circuit breaker, backpressure, time limits."""
