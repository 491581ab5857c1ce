//! conversation.echo.
