"""The servers that Homeroom is compared with: minimal versions of what products use."""
