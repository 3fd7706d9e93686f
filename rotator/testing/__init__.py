"""What plugin and backend authors test with: contract suites, fakes, the crash harness, real servers."""
