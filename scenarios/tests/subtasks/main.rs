//! Stories of: upload subtasks: an API server and a worker that share one topic, by request–reply and by event.
