//! Names of objects, labels and field managers.
