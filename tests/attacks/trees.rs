//! Trees that a user makes deep, wide or restless.
