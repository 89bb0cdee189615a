//! Images on their way into a node.

#[expect(dead_code, reason = "the receiver and the reader come next")]
mod wire;
