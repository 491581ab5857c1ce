//! Requests over a router whose services exist only as descriptors compiled in the test.

mod document;
mod fields;
mod routes;
mod schema;
mod streams;
