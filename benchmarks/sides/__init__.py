"""The sides of benchmarks: each module does one piece of work once, timed, in its own process and environment."""
