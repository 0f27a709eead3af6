"""Sluice past these machines: a model that is fed by measured costs, and a simulation, event by event."""
