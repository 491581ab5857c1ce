//! secretstores.local.file and secretstores.local.env.
