"""The subject of the course: schedules, denoisers, samplers, guidance. Begin with `denoiser`."""
