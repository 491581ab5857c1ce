//! What every component shares: metadata properties, the error shape with its retry verdict, the two build phases.
