//! The role `osc` with real peers: liblo's programs, python-osc, surfaces, OSCQuery clients.

mod faults;
mod feedback;
mod inbound;
mod lanes;
mod outbound;
mod query;
mod streams;
