//! Sound on this host. Knows neither the bus nor tokio.
