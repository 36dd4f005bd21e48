//! The resolved plan for `crosstalk check`.
