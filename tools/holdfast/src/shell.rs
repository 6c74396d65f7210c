pub(crate) mod request;
mod words;
