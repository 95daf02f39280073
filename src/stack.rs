//! The layers in order.
