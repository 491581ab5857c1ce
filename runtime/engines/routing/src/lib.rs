//! CEL content rules that choose the route of an event.
