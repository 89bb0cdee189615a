//! Connects to the engine that the environment selects.

use std::sync::Arc;

use crate::engine::SharedEngine;
use crate::engine::address::{Address, Environment, resolve};
use crate::engine::docker::Docker;
use crate::engine::docker::guarded::{Guarded, Patience};
use crate::engine::place::{self, Surroundings};
use crate::error::Result;

/// Connects to the engine that the environment selects, and checks that it answers.
pub async fn connect(environment: &Environment) -> Result<(SharedEngine, Address)> {
    let address = resolve(environment)?;
    let engine = Guarded::new(Docker::connect(&address).await?, Patience::USUAL);
    let place = place::find(&engine, &address, &Surroundings::of_process()).await?;
    Ok((Arc::new(engine.seen_from(place)), address))
}
