"""The way to a container's port: kept-alive HTTP/1.1 connections, and nothing that can hang."""
