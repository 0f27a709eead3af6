"""What was counted and seen in the last hour, day and fortnight: kept in the store, so a reload loses nothing."""
