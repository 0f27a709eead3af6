"""What `sluice up --demo` shows: workers without a browser, their traffic, and a receiver that plays Laravel."""
