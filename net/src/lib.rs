//! Frames, connections and the request envelope of Holdfast.
