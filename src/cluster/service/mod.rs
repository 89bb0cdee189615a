//! Services as this host sees them: which pods are behind them, at which URLs they are, and whether they answer.

mod answer;
mod endpoints;
pub mod names;
pub mod urls;
pub mod wait;
