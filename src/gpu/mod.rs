//! What a GPU is: model data, MIG profiles and placements, inventory.

mod inventory;
mod model;

pub use inventory::{Gpu, Instance, Inventory};
pub use model::{GpuModel, MigModel, MigProfile};
