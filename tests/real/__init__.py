"""What people really have: files, servers, models, surroundings. One small made-up input each."""
