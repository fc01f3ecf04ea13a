//! Renders `subjects/`: the contract of the bus.
