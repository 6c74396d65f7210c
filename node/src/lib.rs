//! A replica of the Holdfast lock service.
