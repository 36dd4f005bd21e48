//! What a GPU is: model data, MIG profiles and placements, inventory.

mod catalogue;
mod inventory;
mod layout;
mod list;
mod mig_uuid;
mod model;
mod virtualization;

pub use catalogue::{find_model, models, nearest_model};
pub use inventory::{Gpu, Instance, Inventory, named_uuid, simulated, twins};
pub use layout::{LayoutError, LayoutProblem, Placement, create_in_order, parse_layout, place_layout};
pub use list::{gpus_json, gpus_table, profiles_json, profiles_table};
pub use mig_uuid::{MigUuid, MigUuidError, is_mig_uuid, is_same_device, parse_mig_uuid};
pub use model::{GpuModel, MigModel, MigProfile, capability_major, compute_part};
pub use virtualization::Virtualization;
