from bind2gen import ImageBindUnCLIPPipeline  # noqa: F401  (diffusers looks the class up here)
